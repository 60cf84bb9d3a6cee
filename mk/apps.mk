# SPDX-License-Identifier: Apache-2.0
#
# apps.mk: the test programs (tests/apps, tests/fault). They are ordinary programs: not built with
# the project's flags, and with a sanitizer only where it must be in the program (thread).

APPS_SRC := $(sort $(wildcard tests/apps/*.c))
APPS     := $(patsubst tests/apps/%.c,$(B)/apps/%,$(APPS_SRC))
FAULT_SRC := $(sort $(wildcard tests/fault/*.c))
FAULT     := $(patsubst tests/fault/%.c,$(B)/fault/%,$(FAULT_SRC))
APPS_CFLAGS = -std=gnu11 -O2 -g -Wall -Wextra -Wshadow -Werror $(if $(findstring thread,$(SAN)),-fsanitize=thread)
APPS_JOBS ?= 1

$(B)/apps/%: tests/apps/%.c tests/apps/app.h
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) $(APPS_CFLAGS) $$(sed -n 's,^/\* cc: \(.*\) \*/,\1,p' $<) $< -o $@ -pthread

$(B)/fault/%: tests/fault/%.c tests/apps/app.h
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) $(APPS_CFLAGS) -Itests/apps $< -o $@ -pthread

.PHONY: apps check-apps check-apps-bare check-apps-wire check-fault
apps: $(APPS) $(FAULT) ## build the test programs

check-apps: all $(APPS) ## run the test programs bare and meshed and compare
	$(Q)BUILD=$(B) CC=$(CC) tests/apps/run --jobs $(APPS_JOBS)

check-apps-bare: $(APPS) ## run the test programs bare only
	$(Q)BUILD=$(B) tests/apps/run --bare-only --jobs $(APPS_JOBS)

check-apps-wire: all $(APPS) ## run the test programs under a capture that fails on plaintext
	$(Q)BUILD=$(B) CC=$(CC) tests/apps/run --wire

check-fault: all $(FAULT) ## hostile peers against meshed programs
	$(Q)BUILD=$(B) CC=$(CC) tests/fault/run
