# SPDX-License-Identifier: Apache-2.0
#
# Kernel TLS: programs of their own, run with others in a virtual machine (tests/ktls/run).

KTLS_APPS := $(patsubst tests/ktls/%.c,$(B)/apps/%,$(sort $(wildcard tests/ktls/*.c)))

$(KTLS_APPS): $(B)/apps/%: tests/ktls/%.c tests/apps/app.h
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) $(APPS_CFLAGS) -Itests/apps $$(sed -n 's,^/\* cc: \(.*\) \*/,\1,p' $<) $< -o $@ -pthread

.PHONY: check-ktls
check-ktls: all $(APPS) $(KTLS_APPS) ## kernel TLS, in a virtual machine
	$(Q)BUILD=$(B) tests/ktls/run $(NAMES)
