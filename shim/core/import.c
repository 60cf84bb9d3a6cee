/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_import: see import.h. Our own functions are found by the hash table that the linker made of our
 * exports [gABI, GNU hash section], which needs neither memory nor the loader: it is asked for most names that a
 * library imports.
 */
#include "shim/core/import.h"

#include <dlfcn.h>
#include <elf.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "shim/real.h"

#if defined(__x86_64__)
enum { IS_SLOT = R_X86_64_JUMP_SLOT, IS_ENTRY = R_X86_64_GLOB_DAT, IS_ADDRESS = R_X86_64_64 };
#elif defined(__aarch64__)
enum { IS_SLOT = R_AARCH64_JUMP_SLOT, IS_ENTRY = R_AARCH64_GLOB_DAT, IS_ADDRESS = R_AARCH64_ABS64 };
#endif

struct range {
    uintptr_t from, to;
};

struct object {
    uintptr_t base;
    struct range all, relro; /* all its segments; the pages that the loader made read-only */
    const ElfW(Phdr) *segments;
    unsigned segments_n;
    const ElfW(Dyn) *dynamic;
    const ElfW(Sym) *symbols;
    const char *strings;
    const uint32_t *hash;
    const ElfW(Rela) *rela[2]; /* of data, of calls */
    size_t relas[2];
};

/* One walk over the loaded objects. */
struct walk {
    struct object self;
    struct range libc[2];      /* libpthread was a library of its own before glibc 2.34 */
    struct link_map *lib;      /* the first that is new */
    bool is_new, failed;
};

static bool
is_in(const struct range *r, uintptr_t p)
{
    return p >= r->from && p < r->to;
}

/* The dynamic section has addresses, but offsets where the loader may not write to it. */
static uintptr_t
address(const struct object *o, uintptr_t p)
{
    return p < o->base ? o->base + p : p;
}

static void
read_dynamic(struct object *o, const ElfW(Dyn) *d)
{
    for (; d->d_tag != DT_NULL; d++) {
        uintptr_t p = address(o, d->d_un.d_ptr);
        switch (d->d_tag) {
        case DT_SYMTAB:
            o->symbols = (const ElfW(Sym) *)p;
            break;
        case DT_STRTAB:
            o->strings = (const char *)p;
            break;
        case DT_GNU_HASH:
            o->hash = (const uint32_t *)p;
            break;
        case DT_RELA:
            o->rela[0] = (const ElfW(Rela) *)p;
            break;
        case DT_RELASZ:
            o->relas[0] = d->d_un.d_val / sizeof(ElfW(Rela));
            break;
        case DT_JMPREL:
            o->rela[1] = (const ElfW(Rela) *)p;
            break;
        case DT_PLTRELSZ:
            o->relas[1] = d->d_un.d_val / sizeof(ElfW(Rela));
            break;
        default:
            break;
        }
    }
}

static bool
read_object(struct object *o, const struct dl_phdr_info *info)
{
    uintptr_t page = getauxval(AT_PAGESZ);
    *o = (struct object){.base = info->dlpi_addr, .all.from = UINTPTR_MAX, .segments = info->dlpi_phdr,
                         .segments_n = info->dlpi_phnum};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t from = o->base + p->p_vaddr, to = from + p->p_memsz;
        if (p->p_type == PT_LOAD) {
            o->all.from = from < o->all.from ? from : o->all.from;
            o->all.to = to > o->all.to ? to : o->all.to;
        } else if (p->p_type == PT_GNU_RELRO) {
            o->relro = (struct range){from & -page, to & -page};
        } else if (p->p_type == PT_DYNAMIC) {
            o->dynamic = (const ElfW(Dyn) *)from;
        }
    }
    if (o->dynamic) {
        read_dynamic(o, o->dynamic);
    }
    return o->symbols && o->strings;
}

/* The number of our function of that name, or 0. */
static uint32_t
find_export(const struct object *self, const char *name)
{
    uint32_t h = 5381;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
        h = h * 33 + *c;
    }
    const uint32_t *t = self->hash;
    uint32_t buckets = t[0], first = t[1], words = t[2], shift = t[3];
    const ElfW(Addr) *bloom = (const ElfW(Addr) *)(t + 4);
    const uint32_t *bucket = (const uint32_t *)(bloom + words), *chain = bucket + buckets;
    enum { BITS = sizeof(*bloom) * CHAR_BIT };
    ElfW(Addr) seen = bloom[h / BITS % words];
    if (!(seen >> (h % BITS) & seen >> ((h >> shift) % BITS) & 1)) {
        return 0;
    }
    uint32_t i = bucket[h % buckets];
    for (bool last = i < first; !last; i++) {
        uint32_t c = chain[i - first];
        const ElfW(Sym) *s = &self->symbols[i];
        if ((c | 1) == (h | 1) && strcmp(self->strings + s->st_name, name) == 0) {
            return i;
        }
        last = c & 1;
    }
    return 0;
}

static bool
is_libc(const struct walk *w, uintptr_t p)
{
    return is_in(&w->libc[0], p) || is_in(&w->libc[1], p);
}

/* Does this word, which calls our export by its name, lead to libc? One that is bound when it is first used leads
 * back into its own object until then, where it may as well have found what it calls; where it will lead is the
 * loader's to say. An object's own function of that name may come after libc's. */
static bool
leads_to_libc(const struct walk *w, const struct object *o, uintptr_t at, unsigned type, const ElfW(Sym) *s)
{
    if (is_libc(w, at)) {
        return true;
    }
    bool own = s->st_shndx != SHN_UNDEF && at == o->base + s->st_value;
    return type == IS_SLOT && is_in(&o->all, at) && !own && is_libc(w, shim_real_symbol(w->lib, o->strings + s->st_name));
}

/* Pages, and what may be done with them. */
struct pages {
    struct range at;
    int prot;
};

static bool
protect(const struct pages *p, int more)
{
    return sys_call(SYS_mprotect, p->at.from, p->at.to - p->at.from, p->prot | more, 0) == 0;
}

/* Those around a word: what the loader made read-only, or the segment, which is so where code or constants have
 * relocations (DT_TEXTREL). */
static struct pages
pages_of(const struct object *o, uintptr_t word)
{
    if (is_in(&o->relro, word)) {
        return (struct pages){o->relro, PROT_READ};
    }
    uintptr_t page = getauxval(AT_PAGESZ);
    for (unsigned i = 0; i < o->segments_n; i++) {
        const ElfW(Phdr) *s = &o->segments[i];
        struct range r = {o->base + s->p_vaddr, o->base + s->p_vaddr + s->p_memsz};
        if (s->p_type == PT_LOAD && is_in(&r, word)) {
            int prot = (s->p_flags & PF_R ? PROT_READ : 0) | (s->p_flags & PF_W ? PROT_WRITE : 0) |
                       (s->p_flags & PF_X ? PROT_EXEC : 0);
            return (struct pages){{r.from & -page, (r.to + page - 1) & -page}, prot};
        }
    }
    return (struct pages){{0}, 0};
}

static void
close_pages(struct walk *w, struct pages *open)
{
    w->failed |= open->at.to && !protect(open, 0);
    *open = (struct pages){{0}, 0};
}

static bool
open_pages(struct walk *w, const struct object *o, uintptr_t word, struct pages *open)
{
    if (is_in(&open->at, word)) {
        return true;
    }
    struct pages p = pages_of(o, word);
    if (p.prot & PROT_WRITE) {
        return true;
    }
    close_pages(w, open); /* pages may be of both */
    if (!p.at.to || !protect(&p, PROT_WRITE)) {
        return false; /* a filter, or sealed memory */
    }
    *open = p;
    return true;
}

static void
put(struct walk *w, const struct object *o, uintptr_t *word, uintptr_t to, struct pages *open)
{
    if (!open_pages(w, o, (uintptr_t)word, open)) {
        w->failed = true;
        return;
    }
    __atomic_store_n(word, to, __ATOMIC_RELEASE); /* other threads may be calling through it */
}

static void
take(struct walk *w, const struct object *o)
{
    struct pages open = {{0}, 0};
    for (size_t n = 0; n < o->relas[0] + o->relas[1]; n++) {
        const ElfW(Rela) *r = n < o->relas[0] ? &o->rela[0][n] : &o->rela[1][n - o->relas[0]];
        unsigned type = ELF64_R_TYPE(r->r_info);
        const ElfW(Sym) *s = &o->symbols[ELF64_R_SYM(r->r_info)];
        if ((type != IS_SLOT && type != IS_ENTRY && type != IS_ADDRESS) || r->r_addend) {
            continue;
        }
        uint32_t i = find_export(&w->self, o->strings + s->st_name);
        uintptr_t *word = (uintptr_t *)(o->base + r->r_offset);
        if (i && leads_to_libc(w, o, __atomic_load_n(word, __ATOMIC_RELAXED), type, s)) {
            put(w, o, word, w->self.base + w->self.symbols[i].st_value, &open);
        }
    }
    close_pages(w, &open);
}

/* libc and we were there from the start, so they come before all that is new. The walk takes a lock that is inside the
 * loader's own, so symbols may be asked for where that is held. */
static int
look(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct walk *w = arg;
    struct object o;
    (void)size;
    const char *slash = strrchr(info->dlpi_name, '/'), *name = slash ? slash + 1 : info->dlpi_name;
    bool readable = read_object(&o, info);
    w->is_new |= o.dynamic == w->lib->l_ld;
    if (!readable) {
        return 0;
    }
    if (w->is_new && w->self.hash) {
        take(w, &o);
    } else if (is_in(&o.all, (uintptr_t)&shim_import_take)) {
        w->self = o;
    } else if (strcmp(name, "libc.so.6") == 0) {
        w->libc[0] = o.all;
    } else if (strcmp(name, "libpthread.so.0") == 0) {
        w->libc[1] = o.all;
    }
    return 0;
}

static int
read_loads(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    *(unsigned long long *)arg = info->dlpi_adds;
    return 1;
}

unsigned long long
shim_import_loads(void)
{
    unsigned long long n = 0;
    (void)dl_iterate_phdr(read_loads, &n);
    return n;
}

enum mesh_err
shim_import_take(void *lib)
{
    struct walk w = {.lib = lib};
    (void)dl_iterate_phdr(look, &w);
    return w.failed || !w.self.hash ? MESH_E_IMPORT : MESH_OK;
}

/* Where the loader looks for a library that code at p asks for by its name alone; code of no object is as the
 * program's own. On the heap: a thread's stack may be small, the list long. NULL: not known. */
static Dl_serinfo *
read_search(uintptr_t p)
{
    Dl_info info;
    void *map = NULL;
    Dl_serinfo head, *list;
    if (!dladdr1((void *)p, &info, &map, RTLD_DL_LINKMAP) || !map) {
        map = shim_real.dlopen(NULL, RTLD_LAZY);
    }
    if (!map || dlinfo(map, RTLD_DI_SERINFOSIZE, &head) != 0 || !(list = malloc(head.dls_size))) {
        return NULL;
    }
    *list = head;
    if (dlinfo(map, RTLD_DI_SERINFO, list) != 0) {
        free(list);
        return NULL;
    }
    return list;
}

static bool
is_same(const Dl_serinfo *a, const Dl_serinfo *b)
{
    if (!a || !b || a->dls_cnt != b->dls_cnt) {
        return false;
    }
    for (unsigned i = 0; i < a->dls_cnt; i++) {
        if (strcmp(a->dls_serpath[i].dls_name, b->dls_serpath[i].dls_name) != 0) {
            return false;
        }
    }
    return true;
}

bool
shim_import_is_found_from_here(const char *file, uintptr_t caller)
{
    if (strchr(file, '/')) {
        return !strchr(file, '$');
    }
    Dl_serinfo *theirs = read_search(caller), *here = read_search((uintptr_t)&shim_import_take);
    bool same = is_same(theirs, here);
    free(theirs);
    free(here);
    return same;
}
