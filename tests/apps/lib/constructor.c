/* SPDX-License-Identifier: Apache-2.0
 *
 * A library whose constructor does what the program told it to, while the loader works.
 */
extern void on_load(void);

__attribute__((constructor)) static void
loaded(void)
{
    on_load();
}
