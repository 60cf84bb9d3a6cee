# SPDX-License-Identifier: Apache-2.0
#
# The first thing that a newcomer types.

.PHONY: demo deps
demo: ## install what is missing, build, and see two unmodified programs speak mutual TLS
	@scripts/deps demo
	@$(MAKE) --no-print-directory all
	@BUILD=$(B) scripts/demo

deps: ## install the Debian packages that building needs
	@scripts/deps build
