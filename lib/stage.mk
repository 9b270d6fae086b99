# Staged images (lib/pragma_boot/image/staging.py): make -C TEMP/images -f this RECORD.xml
# A record's name carries its source's identity, so one that is there is up to date. The source's
# path comes in the environment: no name of an author's is ever a make target or a shell word.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

STAGE_IMAGE := $(dir $(lastword $(MAKEFILE_LIST)))stage-image

%.xml:
	exec setpriv --pdeathsig TERM -- sh -c '[ "$$PPID" = "$$0" ] && exec "$$@"' "$$PPID" \
	    "$(STAGE_IMAGE)" $* "$$PRAGMA_SOURCE_$*"
