# What a collection's Makefile names, one word a line behind its variable.
# Read after it: make -C COLLECTION -f Makefile -f THIS OUTPUT=/out linklab-list
NAMES := TEST_PROGS TEST_GEN_PROGS TEST_CUSTOM_PROGS TEST_GEN_FILES TEST_FILES
NAMES += TEST_PROGS_EXTENDED TEST_GEN_PROGS_EXTENDED TEST_INCLUDES

.PHONY: linklab-list
linklab-list:
	@: $(foreach name,$(NAMES),$(foreach word,$($(name)),$(info $(name) $(word))))
