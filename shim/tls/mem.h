/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_mem: the allocator under OpenSSL and the engine, in memory of its own: the program's malloc never
 * knows of us. It wipes every block when it is freed: OpenSSL itself leaves the traffic secrets inside
 * a freed SSL object; this leaves nothing.
 *
 * All functions: any thread, signal handlers, after fork.
 */
#ifndef SHIM_TLS_MEM_H
#define SHIM_TLS_MEM_H

#include <stddef.h>

/* Makes OpenSSL use the allocator; to be called before its first allocation, else no effect. */
void shim_mem_init(void);

/* How often this thread was refused memory; grows. */
unsigned shim_mem_lacks(void);
/* Bytes that have ever been blocks, but for those that are mapped by themselves: what is used again does
 * not count again. */
size_t shim_mem_taken(void);

/* Wipes in a way that the compiler cannot leave out; NULL is fine. */
void shim_mem_wipe(void *p, size_t n);

#endif
