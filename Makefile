EXTENSION = partshift
MODULE_big = partshift
OBJS = \
	src/agree.o \
	src/buffer.o \
	src/capture.o \
	src/chore.o \
	src/compare.o \
	src/computed.o \
	src/copy.o \
	src/ddl.o \
	src/default_leaf.o \
	src/dependents.o \
	src/differences.o \
	src/duplicate.o \
	src/ending.o \
	src/fence.o \
	src/fill.o \
	src/freeze.o \
	src/forecast.o \
	src/funcs.o \
	src/guard.o \
	src/hooks.o \
	src/horizon.o \
	src/index.o \
	src/job.o \
	src/keeper.o \
	src/labels.o \
	src/launch.o \
	src/leaf.o \
	src/lookup.o \
	src/maintain.o \
	src/manage.o \
	src/mirror.o \
	src/move.o \
	src/neighbours.o \
	src/parallel.o \
	src/partshift.o \
	src/phases.o \
	src/prepare.o \
	src/privileges.o \
	src/project.o \
	src/pruning.o \
	src/push.o \
	src/reconcile.o \
	src/reference.o \
	src/restored.o \
	src/rewire.o \
	src/route.o \
	src/rowhash.o \
	src/sequences.o \
	src/scan.o \
	src/settle.o \
	src/sides.o \
	src/snapshots.o \
	src/source.o \
	src/sql.o \
	src/statement.o \
	src/swap.o \
	src/table.o \
	src/throttle.o \
	src/trigcache.o \
	src/triggers.o \
	src/truncate.o \
	src/vacuum.o \
	src/verify.o \
	src/wait.o \
	src/worker.o
PGFILEDESC = "partshift - convert a table to a partitioned one online"

SQL_PARTS = $(sort $(wildcard sql/[0-9][0-9]_*.sql))
DATA_built = sql/partshift--1.0.sql
DOCS = $(wildcard doc/*.md)

# Inputs are under test/; expected output is in expected/, where pg_regress
# looks before it looks under --inputdir.
REGRESS = \
	after_swap \
	attached \
	backups \
	carried \
	constraints \
	convert_hash \
	convert_list \
	convert_partitioned \
	convert_range \
	dependents \
	derive \
	ended \
	events \
	extend \
	extend_chain \
	extend_self \
	extend_shapes \
	guard \
	guard_reach \
	identifiers \
	key_types \
	legacy_triggers \
	maintain \
	maintained \
	mirror \
	null_key \
	options \
	orders \
	partitioned_writes \
	plan \
	plan_page \
	policy \
	queries \
	refusals \
	refusals_partitioned \
	refusals_rare \
	rights \
	swap_checks \
	toast \
	trigger_cache \
	vanished \
	verify \
	without_key
REGRESS_OPTS = --inputdir=test
ISOLATION = \
	capture_begin \
	capture_undone \
	computed_key \
	copy_moved \
	copy_overflow \
	copy_race \
	detach_pending \
	fk_actions \
	fk_adopt \
	fk_extend \
	fk_extend_self \
	fk_extend_stages \
	fk_order \
	fk_parent \
	lock_writes \
	lock_writes_lost \
	mirror_begin \
	mirror_nested \
	mirror_snapshot \
	mirror_truncate \
	mirror_unique \
	pair_batch \
	pair_install \
	pair_mirror \
	pair_reconcile \
	pair_rewire \
	pair_rollback \
	pair_swap \
	partitioned_moves \
	partitioned_truncate \
	reconcile_busy \
	reconcile_partition \
	reconcile_reinsert \
	reverse_dropout \
	reverse_finalize \
	reverse_rollback \
	reverse_snapshot \
	swap_busy \
	swap_plan \
	swap_snapshot \
	verify_attach \
	verify_busy
ISOLATION_OPTS = --inputdir=test --outputdir=.
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

# "make demo" and "make test" install PostgreSQL's packages themselves, so
# they must be known before there is a PGXS to include.
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
else
all install installcheck clean:
	@echo "$@: PostgreSQL's extension makefiles were not found." >&2
	@echo "Install postgresql-server-dev-15, or give PG_CONFIG=/path/to/pg_config." >&2
	@false
endif

.PHONY: demo test bench
demo:
	@test/demo
test:
	@test/run
bench:
	@test/bench/run

# Installed PostgreSQL builds do not track header dependencies.
$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h)

# The install script is kept in parts, one for each subject, read in order.
sql/partshift--1.0.sql: $(SQL_PARTS)
	{ printf '%s\n' '\echo Use "CREATE EXTENSION partshift" to load this file. \quit'; \
	  cat $(SQL_PARTS); } > $@
