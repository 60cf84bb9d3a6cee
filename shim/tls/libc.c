/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_libc: see libc.h.
 *
 *  - qsort: libc's takes memory for long lists, and calls free in any case.
 *  - Thread-specific values: libc's take memory but for the first 32 keys of the process, and those may be
 *    the program's. Ours lie in the thread's own memory.
 *  - sprintf: OpenSSL prints each secret for the key log byte by byte, 640 calls a handshake.
 */
#include "shim/tls/libc.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define KEYS    32u /* OpenSSL has about ten */
#define HEX_MAX 8   /* digits */

typedef int compare(const void *, const void *);

void __wrap_qsort(void *base, size_t n, size_t size, compare *cmp);
int __wrap_pthread_key_create(pthread_key_t *key, void (*end)(void *));
int __wrap_pthread_key_delete(pthread_key_t key);
void *__wrap_pthread_getspecific(pthread_key_t key);
int __wrap_pthread_setspecific(pthread_key_t key, const void *value);
int __wrap_sprintf(char *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap___sprintf_chk(char *s, int flag, size_t room, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
int __vsprintf_chk(char *s, int flag, size_t room, const char *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));

#define MOVED 128u /* bytes of an element that is moved at once */

static void
exchange(uint8_t *a, uint8_t *b, size_t n)
{
    while (n-- > 0) {
        uint8_t t = a[n];
        a[n] = b[n];
        b[n] = t;
    }
}

/* The last of n elements goes before all the others. */
static void
rotate(uint8_t *a, size_t n, size_t size)
{
    uint8_t last[MOVED];
    if (size <= MOVED) {
        memcpy(last, a + (n - 1) * size, size);
        memmove(a + size, a, (n - 1) * size);
        memcpy(a, last, size);
        return;
    }
    for (size_t i = n - 1; i > 0; i--)
        exchange(a + i * size, a + (i - 1) * size, size);
}

/* Insertion, each place found by halving: OpenSSL's lists are short. */
void
__wrap_qsort(void *base, size_t n, size_t size, compare *cmp)
{
    uint8_t *a = base;
    for (size_t i = 1; i < n; i++) {
        size_t low = 0, high = i;
        if (cmp(a + (i - 1) * size, a + i * size) <= 0)
            continue;
        while (low < high) {
            size_t mid = (low + high) / 2;
            if (cmp(a + mid * size, a + i * size) <= 0)
                low = mid + 1;
            else
                high = mid;
        }
        rotate(a + low * size, i - low + 1, size);
    }
}

/* No table and no branch: the digit is a secret's. */
static char
hex(unsigned n)
{
    return (char)('0' + n + ((9 - n) >> 8 & ('a' - '9' - 1)));
}

static int
is_hex(const char *fmt)
{
    return fmt[0] == '%' && fmt[1] == '0' && fmt[2] == '2' && fmt[3] == 'x' && fmt[4] == '\0';
}

/* "%02x" */
static int
print_hex(char *s, unsigned n)
{
    int digits = 2;
    while (digits < HEX_MAX && n >> (4 * digits) != 0)
        digits++;
    s[digits] = '\0';
    for (int i = digits; i-- > 0; n >>= 4)
        s[i] = hex(n & 15);
    return digits;
}

int
__wrap_sprintf(char *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = is_hex(fmt) ? print_hex(s, va_arg(ap, unsigned)) : vsprintf(s, fmt, ap);
    va_end(ap);
    return n;
}

int
__wrap___sprintf_chk(char *s, int flag, size_t room, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = room > HEX_MAX && is_hex(fmt) ? print_hex(s, va_arg(ap, unsigned))
                                          : __vsprintf_chk(s, flag, room, fmt, ap);
    va_end(ap);
    return n;
}

static void (*_Atomic tell)(void); /* ever the same (relaxed) */
static atomic_uint keys;
static void (*ends[KEYS])(void *);
static _Thread_local void *values[KEYS];
static _Thread_local int told;

void
shim_libc_init(void (*on_thread)(void))
{
    atomic_store_explicit(&tell, on_thread, memory_order_relaxed);
}

int
__wrap_pthread_key_create(pthread_key_t *key, void (*end)(void *))
{
    unsigned i = atomic_fetch_add(&keys, 1);
    if (i >= KEYS)
        return EAGAIN;
    ends[i] = end;
    *key = i;
    return 0;
}

int
__wrap_pthread_key_delete(pthread_key_t key)
{
    if (key >= KEYS)
        return EINVAL;
    ends[key] = NULL; /* the number is not used again */
    return 0;
}

void *
__wrap_pthread_getspecific(pthread_key_t key)
{
    return key < KEYS ? values[key] : NULL;
}

int
__wrap_pthread_setspecific(pthread_key_t key, const void *value)
{
    if (key >= KEYS)
        return EINVAL;
    values[key] = (void *)(uintptr_t)value;
    void (*fn)(void) = atomic_load_explicit(&tell, memory_order_relaxed);
    if (value != NULL && !told && fn != NULL) {
        told = 1;
        fn();
    }
    return 0;
}

void
shim_libc_thread_end(void)
{
    int again = 1;
    told = 0; /* later destructors of the program's may come back to us */
    for (int round = 0; again && round < PTHREAD_DESTRUCTOR_ITERATIONS; round++) {
        again = 0;
        for (unsigned i = 0; i < KEYS; i++) {
            void *v = values[i];
            values[i] = NULL;
            if (v != NULL && ends[i] != NULL) {
                ends[i](v);
                again = 1;
            }
        }
    }
}
