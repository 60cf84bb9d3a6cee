# SPDX-License-Identifier: Apache-2.0
#
# make check: everything that tells whether the project is sound. docs/TESTING.md says which
# question each part answers. The parts are targets of their own, in this file and its neighbours.

# In order: what fails fastest comes first. Sanitizer runs build into their own directories.
CHECKS = check-lint "all apps CC=clang B=build-clang" check-unit check-bench check-status check-install check-shim check-tls check-gates check-apps check-route check-limits check-ktls check-fault fuzz-tls check-e2e
CHECKS_SAN = "check-unit SAN=address,undefined" "check-shim SAN=address,undefined" "check-tls SAN=address,undefined" \
             "check-apps SAN=address,undefined" "check-fault SAN=address,undefined" \
             "check-e2e SAN=address,undefined" \
             "check-apps SAN=thread" "check-e2e SAN=thread"
# Under ThreadSanitizer only programs with threads say anything: redis, memcached, Python, HAProxy,
# node, wrk, iperf3. Under the others CPython's own suites are left out: minutes, for code that the
# rest runs too. Java and MariaDB have atomics of their own, which it cannot see. Under
# AddressSanitizer 51 is left out: dd asks aligned_alloc() for what the standard does not allow, and
# is ended for it.
E2E_NAMES = $(or $(NAMES),$(if $(findstring thread,$(SAN)),02- 03- 05- 07- 08- 09- 11-,$(if $(SAN),\
            00- 01- 02- 03- 04- 05- 06- 07- 08- 09- 10- 11- 20- 21- 22- 23- 30- 31- 32- 50- 52- \
            modes meshd- no-meshd)))
E2E_JOBS ?= 2
# Check gives each test 4 s: on a machine that does other things, too, that is too little.
export CK_TIMEOUT_MULTIPLIER ?= 10

.PHONY: check check-lint check-e2e check-e2e-bare
check: ## install what is missing, build and run every test
	@scripts/deps check
	@$(MAKE) --no-print-directory all
	@MAKE="$(MAKE)" scripts/check $(CHECKS) $(CHECKS_SAN)

check-lint: all ## the rules that a compiler does not know
	@BUILD=$(B) scripts/lint

check-e2e: all $(if $(SAN),$(B)/early.so) ## real programs, bare and meshed, with a capture
	@E2E_BUILD=$(CURDIR)/$(B) tests/e2e/run --jobs $(E2E_JOBS) $(E2E_NAMES)

check-e2e-bare: ## the bare half of the end-to-end tests
	@tests/e2e/run --bare --jobs $(E2E_JOBS) $(NAMES)

$(B)/early.so: tests/tools/early.c
	@mkdir -p $(@D)
	@[ "$(V)" = 1 ] || echo "  CC      $<"
	$(Q)$(CC) -std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC -Wl,-z,initfirst $< -o $@
