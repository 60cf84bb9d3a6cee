# SPDX-License-Identifier: Apache-2.0
#
# make check: everything that tells whether the project is sound. docs/TESTING.md says which
# question each part answers. The parts are targets of their own, in this file and its neighbours.

# In order: what fails fastest comes first. Sanitizer runs build into their own directories.
CHECKS = check-lint check-unit check-status check-shim check-tls check-apps check-fault fuzz-tls check-e2e
CHECKS_SAN = "check-unit SAN=address,undefined" "check-tls SAN=address,undefined" \
             "check-apps SAN=address,undefined" "check-fault SAN=address,undefined" \
             "check-apps SAN=thread"
E2E_JOBS ?= 2

.PHONY: check check-lint check-e2e check-e2e-bare
check: ## install what is missing, build and run every test
	@scripts/deps check
	@$(MAKE) --no-print-directory all
	@MAKE="$(MAKE)" scripts/check $(CHECKS) $(CHECKS_SAN)

check-lint: all ## the rules that a compiler does not know
	@BUILD=$(B) scripts/lint

check-e2e: all ## real programs, bare and meshed, with a capture
	@E2E_BUILD=$(CURDIR)/$(B) tests/e2e/run --jobs $(E2E_JOBS) $(NAMES)

check-e2e-bare: ## the bare half of the end-to-end tests
	@tests/e2e/run --bare --jobs $(E2E_JOBS) $(NAMES)
