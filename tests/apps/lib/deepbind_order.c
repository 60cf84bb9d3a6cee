/* SPDX-License-Identifier: Apache-2.0
 *
 * deepbind_order.so: needs libc before a library that defines what libc has, too. So that one's own calls are libc's.
 */
/* cc: -Wl,--no-as-needed -lc -l:deepbind_dep.so -Wl,-rpath,$ORIGIN */
