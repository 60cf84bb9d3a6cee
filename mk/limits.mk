# SPDX-License-Identifier: Apache-2.0
#
# Faults and limits of services, as programs see them (tests/limits/run).

$(B)/limits/%: tests/limits/%.c tests/apps/app.h
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) $(APPS_CFLAGS) -Itests/apps $< -o $@ -pthread

.PHONY: check-limits
check-limits: all $(B)/limits/client $(B)/limits/heir ## faults and limits of services, in each way of waiting
	$(Q)BUILD=$(B) tests/limits/run $(NAMES)
