# SPDX-License-Identifier: Apache-2.0
#
# libmesh: `make` builds build/libmesh.so, build/libmesh-engine.so, build/meshd, build/meshctl.
# `make help` lists the targets. SAN=address,undefined or SAN=thread builds into build-<san>/.

CC      ?= gcc
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
SBINDIR ?= $(PREFIX)/sbin
BINDIR  ?= $(PREFIX)/bin
SYSCONFDIR ?= /etc
DESTDIR ?=
SAN     ?=
V       ?= 0

comma := ,
B := build$(if $(SAN),-$(subst $(comma),-,$(SAN)))
Q := $(if $(filter 1,$(V)),,@)

# The source lists are the architecture: a layer may include only those to its right.
#   shim:  sym/ -> ready/ -> flow/ -> { tls/ route/ link/ } -> core/ -> real -> common/ -> include/mesh/
#   meshd: main -> { ctl/ admin/ } -> discovery/ -> { ident/ attest/ registry/ health/ policy/ stats/ } -> base/ -> common/
COMMON_SRC := common/err.c common/addr.c common/flag.c common/vaddr.c common/snap.c common/snap_cache.c common/snap_choice.c common/snap_names.c common/snap_egress.c common/hash.c common/snap_hash.c common/unit.c common/fixed.c common/ewma.c common/outlier.c common/limits.c
TEXT_SRC   := common/suggest.c # meshd and meshctl only
SHIM_SRC   := $(sort shim/real.c shim/filter.c $(wildcard shim/core/*.c shim/link/*.c shim/route/*.c shim/flow/*.c shim/ready/*.c shim/sym/*.c))
ENGINE_SRC := $(sort $(wildcard shim/tls/*.c)) shim/clock.c
MESHD_SRC  := $(sort $(wildcard meshd/*.c meshd/*/*.c))
MESHCTL_SRC := $(sort $(wildcard meshctl/*.c))

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual \
        -Wwrite-strings -Wvla -Wformat=2 -Wswitch-enum -Wnull-dereference -Wundef
HARD := -fstack-protector-strong -fno-strict-aliasing
CPPFLAGS += -D_GNU_SOURCE -I. -Iinclude
CFLAGS   ?= -O2 -g
ALL_CFLAGS = -std=c11 $(WARN) $(HARD) -fvisibility=hidden -MMD -MP $(CFLAGS) \
             $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
LDHARD := -Wl,-z,relro,-z,now,-z,defs $(if $(SAN),-fsanitize=$(SAN))

.SECONDEXPANSION:
.DEFAULT_GOAL := all
.PHONY: all clean help
.DELETE_ON_ERROR:

-include $(wildcard mk/*.mk)

obj = $(patsubst %.c,$(B)/$(1)/%.o,$(2))

SHIM_OBJ   := $(call obj,pic,$(SHIM_SRC) $(COMMON_SRC))
RELAY_OBJ  := $(call obj,exe,shim/relay/relay.c)
ENGINE_OBJ := $(call obj,pic,$(ENGINE_SRC))
MESHD_OBJ  := $(call obj,exe,$(MESHD_SRC) $(COMMON_SRC) $(TEXT_SRC))
MESHCTL_OBJ := $(call obj,exe,$(MESHCTL_SRC) $(TEXT_SRC))

all: $(B)/libmesh.so $(B)/libmesh-engine.so $(B)/libmesh-relay $(B)/meshd $(B)/meshctl ## build everything

# Inside other programs: initial-exec TLS, no FORTIFY (its *_chk names are ours to define).
PIC_CFLAGS := -fPIC -ftls-model=initial-exec -fno-semantic-interposition -U_FORTIFY_SOURCE
$(B)/pic/%.o: %.c
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(PIC_CFLAGS) -c $< -o $@

$(B)/exe/%.o: %.c
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -fPIE $(MESHD_CFLAGS) -c $< -o $@

$(B)/libmesh.so: $(SHIM_OBJ) shim/sym/libmesh.map
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -shared -Wl,-soname,libmesh.so -Wl,--hash-style=gnu $(LDHARD) -Wl,--version-script=shim/sym/libmesh.map -o $@ $(SHIM_OBJ) -ldl

# What OpenSSL's static libraries want besides (zlib and zstd, since Debian 13) is taken in too: the
# program may have its own.
OPENSSL_STATIC = $(filter-out -ldl -lpthread,$(shell pkg-config --static --libs-only-l libssl libcrypto))
# What the engine answers in OpenSSL's stead (shim/tls/certs.c, libc.c, methods.c, provider.c, tape.c, x25519.c): tests and fuzzers are linked so, too.
ENGINE_WRAP := $(addprefix -Wl$(comma)--wrap=,d2i_X509 ossl_default_provider_init ossl_x25519_public_from_private sprintf __sprintf_chk EVP_MD_fetch EVP_MAC_fetch EVP_KDF_fetch \
	  EVP_SIGNATURE_fetch EVP_KEYMGMT_names_do_all EVP_KEYMGMT_is_a EVP_MD_names_do_all EVP_MD_is_a RAND_bytes_ex RAND_priv_bytes_ex)
ENGINE_LINK = $(CC) -shared -Wl,-soname,libmesh-engine.so $(LDHARD) -Wl,-Bsymbolic -Wl,-z,nodelete -Wl,--exclude-libs,ALL \
	  -Wl,--wrap=time,--wrap=gettimeofday,--wrap=clock_gettime,--wrap=qsort \
	  -Wl,--wrap=pthread_key_create,--wrap=pthread_key_delete,--wrap=pthread_getspecific,--wrap=pthread_setspecific \
	  $(ENGINE_WRAP) \
	  -Wl,--version-script=shim/tls/engine.map -o $@ $(filter %.o,$^) -Wl,-Bstatic $(OPENSSL_STATIC) -Wl,-Bdynamic -ldl -lpthread
$(B)/libmesh-engine.so: $(ENGINE_OBJ) shim/tls/engine.map
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(ENGINE_LINK)

$(B)/libmesh-relay: $(RELAY_OBJ)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $(RELAY_OBJ)

$(B)/meshd: $(MESHD_OBJ)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $(MESHD_OBJ) -levent_core -levent_extra -levent_openssl -lconfig -ljansson -lcares -lresolv -lssl -lcrypto -lpthread

$(B)/meshctl: $(MESHCTL_OBJ)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $(MESHCTL_OBJ)

clean: ## remove what was built
	rm -rf build build-*

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' Makefile $(wildcard mk/*.mk) | sed 's/:.*##/\t/' | sort | column -t -s "$$(printf '\t')"

-include $(SHIM_OBJ:.o=.d) $(ENGINE_OBJ:.o=.d) $(MESHD_OBJ:.o=.d) $(MESHCTL_OBJ:.o=.d)
