# SPDX-License-Identifier: Apache-2.0
#
# Services: programs that connect to one, bare and meshed, compared (tests/apps/run), under a
# configuration of their own; as root in a network of their own, for the ports are fixed.

ROUTE_APPS := $(patsubst tests/route/%.c,$(B)/apps/%,$(sort $(wildcard tests/route/*.c)))

$(ROUTE_APPS): $(B)/apps/%: tests/route/%.c tests/apps/app.h
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) $(APPS_CFLAGS) -Itests/apps $$(sed -n 's,^/\* cc: \(.*\) \*/,\1,p' $<) $< -o $@ -pthread

.PHONY: check-route
check-route: all $(ROUTE_APPS) ## programs that connect to a service whose endpoints fail in each way
	$(Q)BUILD=$(B) CC=$(CC) tests/apps/run --wire --dir tests/route --config "$$(cat tests/route/meshd.conf)"
