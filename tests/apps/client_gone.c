/* SPDX-License-Identifier: Apache-2.0
 *
 * client_gone: client_ended in mode strict, where nothing is said to such a client: of what has closed the program sees the
 * same.
 */
/* run: modes gone reset */
/* run: nomesh */
/* run: config mode = "strict"; */
#include "client_ended.c"
