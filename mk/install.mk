# SPDX-License-Identifier: Apache-2.0
#
# make install / uninstall. The library's directory may not be on the loader's path: it is named by
# its path in LD_PRELOAD, and the launcher knows it.

DATADIR ?= $(PREFIX)/share
MANDIR  ?= $(DATADIR)/man
INSTALL ?= install
MANPAGES = $(wildcard docs/man/*.[1-8])

# meshctl knows it, too (LIBMESH_LIB and its own directory go before it); another LIBDIR makes that anew.
$(B)/exe/meshctl/check.o: CPPFLAGS += -DMESH_LIBDIR='"$(LIBDIR)"'
$(B)/exe/meshctl/check.o: $(B)/libdir
$(B)/libdir: .FORCE
	$(Q)mkdir -p $(@D)
	$(Q)[ "$$(cat $@ 2>/dev/null)" = "$(LIBDIR)" ] || echo "$(LIBDIR)" >$@

.PHONY: install uninstall check-install .FORCE
check-install: all ## what is installed finds its parts, below another LIBDIR
	$(Q)MAKE="$(MAKE)" tests/tools/install

install: all ## install below DESTDIR and PREFIX (default /usr/local)
	$(INSTALL) -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(SYSCONFDIR)
	$(INSTALL) -m 644 $(B)/libmesh.so $(B)/libmesh-engine.so $(DESTDIR)$(LIBDIR)/
	$(INSTALL) -m 755 $(B)/libmesh-relay $(DESTDIR)$(LIBDIR)/
	$(INSTALL) -m 755 $(B)/meshd $(DESTDIR)$(SBINDIR)/
	$(INSTALL) -m 755 $(B)/meshctl $(DESTDIR)$(BINDIR)/
	sed "s|^libdir=''.*|libdir='$(LIBDIR)'|" scripts/mesh-run >$(DESTDIR)$(BINDIR)/mesh-run
	chmod 755 $(DESTDIR)$(BINDIR)/mesh-run
	$(if $(wildcard conf/meshd.conf),[ -e $(DESTDIR)$(SYSCONFDIR)/meshd.conf ] || $(INSTALL) -m 644 conf/meshd.conf $(DESTDIR)$(SYSCONFDIR)/)
	for m in $(MANPAGES); do \
	  $(INSTALL) -D -m 644 $$m $(DESTDIR)$(MANDIR)/man$${m##*.}/$${m##*/} || exit 1; done

uninstall: ## remove what install put there, but not meshd.conf
	rm -f $(DESTDIR)$(LIBDIR)/libmesh.so $(DESTDIR)$(LIBDIR)/libmesh-engine.so $(DESTDIR)$(LIBDIR)/libmesh-relay \
	  $(DESTDIR)$(SBINDIR)/meshd $(DESTDIR)$(BINDIR)/meshctl $(DESTDIR)$(BINDIR)/mesh-run
	for m in $(MANPAGES); do rm -f $(DESTDIR)$(MANDIR)/man$${m##*.}/$${m##*/}; done
