/*
 * vmm/base/version.h - roost's own version; the Makefile gives it.
 */
#ifndef VMM_BASE_VERSION_H
#define VMM_BASE_VERSION_H

#ifndef ROOST_VERSION
#define ROOST_VERSION "0.1.0"
#endif

#endif
