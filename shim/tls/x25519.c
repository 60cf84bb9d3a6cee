/* SPDX-License-Identifier: Apache-2.0
 *
 * The public key of X25519 that belongs to a private one, for OpenSSL, which links with this in place of its own
 * [Makefile: ENGINE_WRAP]. It multiplies the base point on the Edwards curve in portable C, which takes
 * half as long again as the scalar multiplication of any point with the processor's instructions
 * [crypto/ec/asm/x25519-x86_64.pl]. The public key is X25519(private key, 9) [RFC 7748 6.1], so where those
 * instructions are, that is what we ask for. Both take the same time for every key.
 */
#include <stddef.h>
#include <stdint.h>

/* OpenSSL's; no header has them. Weak: where one is missing, its own way remains. */
__attribute__((weak)) int ossl_x25519(uint8_t shared[32], const uint8_t private[32], const uint8_t peer[32]);
__attribute__((weak)) int x25519_fe64_eligible(void);
void __real_ossl_x25519_public_from_private(uint8_t public[32], const uint8_t private[32]);
void __wrap_ossl_x25519_public_from_private(uint8_t public[32], const uint8_t private[32]);

void
__wrap_ossl_x25519_public_from_private(uint8_t public[32], const uint8_t private[32])
{
    static const uint8_t base[32] = {9};
    if (ossl_x25519 == NULL || x25519_fe64_eligible == NULL || !x25519_fe64_eligible() ||
        ossl_x25519(public, private, base) != 1)
        __real_ossl_x25519_public_from_private(public, private);
}
