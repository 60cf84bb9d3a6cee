# SPDX-License-Identifier: Apache-2.0
#
# apps.mk: the test programs (tests/apps, tests/fault). They are ordinary programs: not built with
# the project's flags, and with a sanitizer only where it must be in the program (thread).

APPS_SRC := $(sort $(wildcard tests/apps/*.c))
APPS     := $(patsubst tests/apps/%.c,$(B)/apps/%,$(APPS_SRC)) \
            $(patsubst tests/apps/lib/%.c,$(B)/apps/%.so,$(sort $(wildcard tests/apps/lib/*.c)))
FAULT_SRC := $(filter-out tests/fault/otherlibc.c,$(sort $(wildcard tests/fault/*.c)))
FAULT     := $(patsubst tests/fault/%.c,$(B)/fault/%,$(FAULT_SRC)) $(B)/fault/otherlibc.so
APPS_CFLAGS = -std=gnu11 -O2 -g -Wall -Wextra -Wshadow -Werror $(if $(findstring thread,$(SAN)),-fsanitize=thread)
# One at a time, each one's connections are counted, too. ThreadSanitizer makes all of it slow.
APPS_JOBS ?= $(if $(findstring thread,$(SAN)),2,1)

$(B)/apps/%: tests/apps/%.c $(wildcard tests/apps/*.h)
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)cc=$$(sed -n 's,^/\* cc: \(.*\) \*/,\1,p' $<); case $$cc in *-static*) san=-fno-sanitize=all ;; esac; \
	  $(CC) $(APPS_CFLAGS) $$san -L$(@D) $< -o $@ $$cc -pthread

# Libraries that a program loads. A "cc:" line names what they need of each other, too.
$(B)/apps/%.so: tests/apps/lib/%.c
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -std=gnu11 -O2 -Wall -Wextra -Werror -fPIC -shared $< -o $@ -L$(@D) $$(sed -n 's,^/\* cc: \(.*\) \*/,\1,p' $<)
$(B)/apps/deepbind.so $(B)/apps/deepbind_now.so $(B)/apps/deepbind_text.so $(B)/apps/deepbind_order.so: $(B)/apps/deepbind_dep.so
$(B)/apps/deepbind_now.so $(B)/apps/deepbind_text.so: tests/apps/lib/deepbind.c
$(B)/apps/deepbind_early: $(B)/apps/deepbind_first.so
$(B)/apps/deepbind_drops.so: tests/apps/lib/deepbind_calls.c

$(B)/fault/%: tests/fault/%.c tests/apps/app.h
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) $(APPS_CFLAGS) -Itests/apps $$(sed -n 's,^/\* cc: \(.*\) \*/,\1,p' $<) $< -o $@ -pthread

$(B)/fault/%.so: tests/fault/%.c
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(CC) -std=gnu11 -O2 -Wall -Wextra -Werror -fPIC -shared $< -o $@

# An engine of which each single request for memory can be refused (nomem.c), with libmesh.so beside it.
LACKING := $(B)/fault/lacking
$(LACKING)/mem.o: shim/tls/mem.c
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $@"
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(PIC_CFLAGS) -DSHIM_MEM_MAY_LACK=nomem_fails -c $< -o $@
$(LACKING)/libmesh-engine.so: $$(filter-out %/tls/mem.o,$$(ENGINE_OBJ)) $(LACKING)/mem.o shim/tls/engine.map
	@[ "$(V)" = 1 ] || echo "  LD      $@"
	$(Q)$(ENGINE_LINK)
$(LACKING)/libmesh.so: $(B)/libmesh.so
	$(Q)mkdir -p $(@D) && cp $< $@

.PHONY: apps check-apps check-apps-bare check-apps-wire check-fault
apps: $(APPS) $(FAULT) ## build the test programs

check-apps: all $(APPS) ## run the test programs bare and meshed and compare
	$(Q)BUILD=$(B) CC=$(CC) tests/apps/run --jobs $(APPS_JOBS)

check-apps-bare: $(APPS) ## run the test programs bare only
	$(Q)BUILD=$(B) tests/apps/run --bare-only --jobs $(APPS_JOBS)

check-apps-wire: all $(APPS) ## run the test programs under a capture that fails on plaintext
	$(Q)BUILD=$(B) CC=$(CC) tests/apps/run --wire

check-fault: all $(FAULT) $(B)/apps/deepbind_now.so $$(LACKING)/libmesh-engine.so $$(LACKING)/libmesh.so ## hostile peers, a damaged snapshot and lacks of all kinds, in meshed programs
	$(Q)BUILD=$(B) CC=$(CC) tests/fault/run; a=$$?; \
	BUILD=$(B) CC=$(CC) tests/fault/local && exit $$a

$(B)/soak/soak: tests/soak/soak.c
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) $(APPS_CFLAGS) $< -o $@ -pthread

.PHONY: soak
soak: all $(B)/soak/soak ## ten minutes of connections that end in every way; what must stay flat
	$(Q)BUILD=$(B) tests/soak/run $(SECONDS)
