# Staged images (lib/pragma_boot/image/staging.py): make -C TEMP/images -f stage.mk RECORD.xml
# The name of a record contains a hash of its source's identity, so a record that exists is up to date. The
# path of the source is an environment variable: an author's name is never a make target or a shell word.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
# The FIFO in /tmp that make 4.4 uses by default would remain if make were killed.
MAKEFLAGS += $(if $(filter jobserver-fifo,$(.FEATURES)),--jobserver-style=pipe)
.SUFFIXES:
.DELETE_ON_ERROR:

STAGE_IMAGE := $(dir $(lastword $(MAKEFILE_LIST)))stage-image

# For the progress line (lib/pragma_boot/image/meter.py): what is missing, in one write.
ifdef PRAGMA_METER
missing := $(filter-out $(wildcard $(MAKECMDGOALS)),$(MAKECMDGOALS))
$(if $(missing),$(file >>/dev/fd/$(PRAGMA_METER),$(missing:.xml=)))
endif

%.xml:
	exec setpriv --pdeathsig TERM -- sh -c '[ "$$PPID" = "$$0" ] && exec "$$@"' "$$PPID" \
	    "$(STAGE_IMAGE)" $* "$$PRAGMA_SOURCE_$*"
