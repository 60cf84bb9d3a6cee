/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_mem: the allocator under OpenSSL, which wipes every block when it is freed. OpenSSL itself
 * leaves the traffic secrets inside a freed SSL object; this leaves nothing.
 */
#ifndef SHIM_TLS_MEM_H
#define SHIM_TLS_MEM_H

#include <stddef.h>

/* Makes OpenSSL use the allocator; to be called before its first allocation, else no effect. */
void shim_mem_init(void);

/* Wipes in a way that the compiler cannot leave out; NULL is fine. Any thread, signal handlers. */
void shim_mem_wipe(void *p, size_t n);

#endif
