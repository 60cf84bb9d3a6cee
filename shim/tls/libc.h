/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_libc: what OpenSSL calls in libc, where libc would allocate with the program's malloc, or is slow.
 * The linker leads the names here (--wrap, in libmesh-engine.so only).
 */
#ifndef SHIM_TLS_LIBC_H
#define SHIM_TLS_LIBC_H

/* Before OpenSSL's first call: as in shim_tls_engine(); NULL is fine. */
void shim_libc_init(void (*on_thread)(void));
/* The thread ends: as libc does with values and their destructors [pthread_key_create(3)]. */
void shim_libc_thread_end(void);

#endif
