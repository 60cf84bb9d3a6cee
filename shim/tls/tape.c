/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_tape: see tape.h. A request that is not on the tape is refused: then there is no hello, rather than
 * one with random bytes of unknown quality.
 */
#include "shim/tls/tape.h"

#include <string.h>

#include <openssl/rand.h>

int __wrap_RAND_bytes_ex(OSSL_LIB_CTX *lib, unsigned char *out, size_t n, unsigned strength);
int __wrap_RAND_priv_bytes_ex(OSSL_LIB_CTX *lib, unsigned char *out, size_t n, unsigned strength);
int __real_RAND_bytes_ex(OSSL_LIB_CTX *lib, unsigned char *out, size_t n, unsigned strength);
int __real_RAND_priv_bytes_ex(OSSL_LIB_CTX *lib, unsigned char *out, size_t n, unsigned strength);

static _Thread_local struct shim_tape *playing;

static int
copy(unsigned char *out, const uint8_t *from, size_t n)
{
    if (from == NULL || n != 32)
        return 0;
    memcpy(out, from, n);
    return 1;
}

int
__wrap_RAND_bytes_ex(OSSL_LIB_CTX *lib, unsigned char *out, size_t n, unsigned strength)
{
    struct shim_tape *t = playing;
    if (t == NULL)
        return __real_RAND_bytes_ex(lib, out, n, strength);
    const uint8_t *answers[] = {t->random, t->session_id};
    unsigned i = t->asked++;
    return copy(out, i < 2 ? answers[i] : NULL, n);
}

int
__wrap_RAND_priv_bytes_ex(OSSL_LIB_CTX *lib, unsigned char *out, size_t n, unsigned strength)
{
    struct shim_tape *t = playing;
    if (t == NULL)
        return __real_RAND_priv_bytes_ex(lib, out, n, strength);
    return copy(out, t->asked_private++ == 0 ? t->share : NULL, n);
}

void
shim_tape_play(struct shim_tape *t)
{
    if (t != NULL)
        t->asked = t->asked_private = 0;
    playing = t;
}

const struct shim_tape *
shim_tape_playing(void)
{
    return playing;
}

bool
shim_tape_record(struct shim_tape *t)
{
    return RAND_bytes(t->random, sizeof(t->random)) == 1 && RAND_bytes(t->session_id, sizeof(t->session_id)) == 1 &&
           RAND_priv_bytes(t->share, sizeof(t->share)) == 1;
}
