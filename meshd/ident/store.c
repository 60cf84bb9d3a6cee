/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ident_store: see store.h. Private keys pass through one buffer, which is wiped.
 */
#include "meshd/ident/store.h"

#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/ident/cert.h"

#define PEM_MAX (64u << 10)

void
meshd_authority_fini(struct meshd_authority *a)
{
    X509_free(a->root);
    X509_free(a->issuing);
    EVP_PKEY_free(a->root_key);
    EVP_PKEY_free(a->issuing_key);
    *a = (struct meshd_authority){0};
}

/* Secret files must be nobody else's business. */
static enum mesh_err
check_mode(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && (st.st_mode & 077) != 0) {
        log_error("%s: mode %04o lets others at a private key; chmod 600 it, and if somebody may "
                  "have read it, move the state directory away and start anew",
                  path, (unsigned)(st.st_mode & 07777));
        return MESH_E_CONFIG;
    }
    return MESH_OK;
}

/* No passphrase is ever asked for: there is nobody to answer. */
static int
no_passphrase(char *buf, int size, int rw, void *arg)
{
    (void)buf;
    (void)size;
    (void)rw;
    (void)arg;
    return -1;
}

struct pem_file {
    const char *name;
    bool secret;
    X509 **cert;
    EVP_PKEY **key;
};

/* Our own keys are of one kind. Without a word about it OpenSSL 3 looks through the decoders of all kinds for each key,
 * which was 40 % of what a start takes; what an administrator put there may be of another kind. */
static EVP_PKEY *
read_key(BIO *bio)
{
    const unsigned char *at = NULL;
    size_t left = (size_t)BIO_get_mem_data(bio, &at);
    EVP_PKEY *key = NULL;
    ERR_set_mark();
    OSSL_DECODER_CTX *c = OSSL_DECODER_CTX_new_for_pkey(&key, "PEM", "PrivateKeyInfo", "EC", EVP_PKEY_KEYPAIR, NULL, NULL);
    bool ours = c && OSSL_DECODER_CTX_set_pem_password_cb(c, no_passphrase, NULL) &&
                OSSL_DECODER_from_data(c, &at, &left);
    OSSL_DECODER_CTX_free(c);
    ERR_pop_to_mark();
    return ours ? key : PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
}

static bool
parse(const char *data, size_t len, const struct pem_file *f)
{
    BIO *bio = BIO_new_mem_buf(data, (int)len);
    bool ok = bio != NULL;
    if (ok && f->cert) {
        *f->cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
        ok = *f->cert != NULL;
    }
    if (ok && f->key) {
        *f->key = read_key(bio);
        ok = *f->key != NULL;
    }
    BIO_free(bio);
    return ok;
}

/* A missing file is no error. */
static enum mesh_err
load(const char *dir, const struct pem_file *f)
{
    char path[PATH_MAX];
    char *data = NULL;
    size_t len = 0;
    if (!meshd_path(path, sizeof(path), dir, f->name)) {
        return MESH_E_CONFIG;
    }
    enum mesh_err e = meshd_file_read(path, PEM_MAX, &data, &len);
    if (e != MESH_OK) {
        if (errno == ENOENT) {
            return MESH_OK;
        }
        log_error("%s: %s", path, strerror(errno));
        return MESH_E_CONFIG;
    }
    e = f->secret ? check_mode(path) : MESH_OK;
    if (e == MESH_OK && !parse(data, len, f)) {
        log_error("%s: damaged (%s); restore it from a backup, or move the state directory away "
                  "to make a new authority (then every workload needs a new certificate)",
                  path, meshd_ident_why());
        e = MESH_E_CONFIG;
    }
    explicit_bzero(data, len);
    free(data);
    return e;
}

enum mesh_err
meshd_ident_store_load(const char *dir, struct meshd_authority *a)
{
    const struct pem_file files[] = {
        {"root.key", true, NULL, &a->root_key},
        {"root.crt", false, &a->root, NULL},
        {"issuing.pem", true, &a->issuing, &a->issuing_key},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        enum mesh_err e = load(dir, &files[i]);
        if (e != MESH_OK) {
            meshd_authority_fini(a);
            return e;
        }
    }
    return MESH_OK;
}

static enum mesh_err
save(const char *dir, const char *name, X509 *cert, EVP_PKEY *key)
{
    enum mesh_err e = MESH_E_SYSTEM;
    char path[PATH_MAX];
    char *data = NULL;
    BIO *bio = BIO_new(BIO_s_secmem());
    if (!bio || !meshd_path(path, sizeof(path), dir, name)) {
        goto out;
    }
    if ((cert && !PEM_write_bio_X509(bio, cert)) ||
        (key && !PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL))) {
        goto out;
    }
    long len = BIO_get_mem_data(bio, &data);
    e = meshd_file_write(path, data, (size_t)len, key ? 0600 : 0644, true);
out:
    BIO_free(bio); /* secmem: wiped */
    return e;
}

enum mesh_err
meshd_ident_store_root(const char *dir, const struct meshd_authority *a)
{
    enum mesh_err e = save(dir, "root.key", NULL, a->root_key);
    return e == MESH_OK ? save(dir, "root.crt", a->root, NULL) : e;
}

enum mesh_err
meshd_ident_store_issuing(const char *dir, X509 *cert, EVP_PKEY *key)
{
    return save(dir, "issuing.pem", cert, key);
}
