#!/usr/bin/make -f
# One cluster for each project of a laboratory, each with targets of its own:
#
#   examples/projects.mk physics            boot the cluster of the project physics
#   examples/projects.mk clean-physics      remove it
#   examples/projects.mk status             all targets of pragma_boot's Makefile work, too
#
# In your own makefile, change the path. This line defines pragma_boot's targets, and $(bin), the folder of
# its tools.
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
