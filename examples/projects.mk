#!/usr/bin/make -f
# A cluster for each project of a laboratory, with targets of its own:
#
#   examples/projects.mk physics            boot the physicists' cluster
#   examples/projects.mk clean-physics      remove it
#   examples/projects.mk status             and all other targets of ours
#
# This line, with a path of yours, gives a makefile our targets, and $(bin), where the tools are.
include $(dir $(realpath $(lastword $(MAKEFILE_LIST))))../Makefile

LAB ?= lab
VC ?= debian
KEYS ?= $(HOME)/.ssh

projects := physics chemistry
physics.cpus := 4
physics.key := $(KEYS)/physics.pub
chemistry.cpus := 2
chemistry.key := $(KEYS)/chemistry.pub

.PHONY: $(projects) $(projects:%=clean-%)
$(projects):
	$(Q)$(bin)/pragma_boot --vcname '$(VC)' --name '$(LAB)-$@' --num_cpus $($@.cpus) --key '$($@.key)'

$(projects:%=clean-%): clean-%:
	$(Q)$(bin)/vc-clean '$(LAB)-$*'
