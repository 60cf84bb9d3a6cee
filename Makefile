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
#   meshd: main -> { ctl/ admin/ } -> { ident/ attest/ registry/ health/ policy/ stats/ } -> base/ -> common/
COMMON_SRC := common/err.c common/addr.c common/snap.c
TEXT_SRC   := common/suggest.c # meshd and meshctl only
SHIM_SRC   := $(sort $(wildcard shim/*.c shim/core/*.c shim/link/*.c shim/route/*.c shim/flow/*.c shim/ready/*.c shim/sym/*.c))
ENGINE_SRC := $(sort $(wildcard shim/tls/*.c))
MESHD_SRC  := $(sort $(wildcard meshd/*.c meshd/*/*.c))
MESHCTL_SRC := $(sort $(wildcard meshctl/*.c))

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual \
        -Wwrite-strings -Wvla -Wformat=2 -Wswitch-enum -Wnull-dereference -Wundef
HARD := -fstack-protector-strong -fno-strict-aliasing
CPPFLAGS += -D_GNU_SOURCE -I. -Iinclude
CFLAGS   ?= -O2 -g
ALL_CFLAGS = -std=c11 $(WARN) $(HARD) -fvisibility=hidden -MMD -MP $(CFLAGS) \
             $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
LDHARD := -Wl,-z,relro,-z,now,-z,defs $(if $(SAN),-fsanitize=$(SAN))

.SECONDEXPANSION:
.DEFAULT_GOAL := all
.PHONY: all clean help
.DELETE_ON_ERROR:

-include $(wildcard mk/*.mk)

obj = $(patsubst %.c,$(B)/$(1)/%.o,$(2))

SHIM_OBJ   := $(call obj,pic,$(SHIM_SRC) $(COMMON_SRC))
ENGINE_OBJ := $(call obj,pic,$(ENGINE_SRC))
MESHD_OBJ  := $(call obj,exe,$(MESHD_SRC) $(COMMON_SRC) $(TEXT_SRC))
MESHCTL_OBJ := $(call obj,exe,$(MESHCTL_SRC) $(TEXT_SRC))

all: $(B)/libmesh.so $(B)/libmesh-engine.so $(B)/meshd $(B)/meshctl ## build everything

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
	$(Q)$(CC) -shared -Wl,-soname,libmesh.so $(LDHARD) -Wl,--version-script=shim/sym/libmesh.map -o $@ $(SHIM_OBJ) -ldl

$(B)/libmesh-engine.so: $(ENGINE_OBJ) shim/tls/engine.map
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -shared -Wl,-soname,libmesh-engine.so $(LDHARD) -Wl,-Bsymbolic -Wl,-z,nodelete -Wl,--exclude-libs,ALL \
	  -Wl,--version-script=shim/tls/engine.map -o $@ $(ENGINE_OBJ) -Wl,-Bstatic -lssl -lcrypto -Wl,-Bdynamic -ldl -lpthread

$(B)/meshd: $(MESHD_OBJ)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $(MESHD_OBJ) -levent_core -levent_extra -levent_openssl -lconfig -ljansson -lssl -lcrypto -lpthread

$(B)/meshctl: $(MESHCTL_OBJ)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -pie $(LDHARD) -o $@ $(MESHCTL_OBJ)

clean: ## remove what was built
	rm -rf build build-*

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' Makefile $(wildcard mk/*.mk) | sed 's/:.*##/\t/' | sort | column -t -s "$$(printf '\t')"

-include $(SHIM_OBJ:.o=.d) $(ENGINE_OBJ:.o=.d) $(MESHD_OBJ:.o=.d) $(MESHCTL_OBJ:.o=.d)
