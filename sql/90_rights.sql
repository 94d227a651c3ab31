/*
 * Rights.  The tables are written by the extension's owner alone.  Everybody
 * may call the functions of the interface, which check whose table it is, and
 * read the views, which show nobody another's jobs.
 */
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA partshift FROM PUBLIC;
REVOKE ALL ON ALL PROCEDURES IN SCHEMA partshift FROM PUBLIC;
GRANT USAGE ON SCHEMA partshift TO PUBLIC;

DO $$
DECLARE
	routine regprocedure;
BEGIN
	FOR routine IN
		SELECT p.oid FROM pg_catalog.pg_proc p
		WHERE p.pronamespace = 'partshift'::pg_catalog.regnamespace
			AND p.proname IN ('convert', 'plan', 'create_job', 'plan_job',
				'order_job', 'pause', 'resume', 'abort', 'swap', 'rollback',
				'finalize', 'verify', 'alter_job', 'wait', 'watch', 'can_see',
				'carried', 'acts_for', 'is_loaded', 'check_command',
				'hand_over', 'grid_of', 'partman_schema', 'make_template',
				'check_partman', 'leaf_bounds', 'register_partman', 'end_policy',
				'bound_rank', 'is_number', 'time_step', 'step_pattern',
				'step_months',
				'manage', 'unmanage', 'manage_table', 'maintain', 'run_maintenance',
				'verify_backup', 'extend_backup', 'order_backup', 'cleanup', 'run_cleanup',
				'health', 'leaves', 'distribution', 'inspect')
	LOOP
		EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO PUBLIC',
								  routine);
	END LOOP;
END
$$;

GRANT SELECT ON partshift.jobs, partshift.progress, partshift.waiting,
	partshift.range_grid TO PUBLIC;

/*
 * The details of a job are for whoever may see the job; the keys of rows that
 * differ, for those who may read the rows.
 */
ALTER TABLE partshift.verification ENABLE ROW LEVEL SECURITY;
ALTER TABLE partshift.phase_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE partshift.dropout ENABLE ROW LEVEL SECURITY;
ALTER TABLE partshift.carried_object ENABLE ROW LEVEL SECURITY;

CREATE POLICY of_own_job ON partshift.verification FOR SELECT
	USING (job_id IN (SELECT w.job_id FROM partshift.waiting w WHERE w.own));
CREATE POLICY of_visible_job ON partshift.phase_log FOR SELECT
	USING (job_id IN (SELECT j.job_id FROM partshift.jobs j));
CREATE POLICY of_visible_job ON partshift.dropout FOR SELECT
	USING (job_id IN (SELECT j.job_id FROM partshift.jobs j));
CREATE POLICY of_own_job ON partshift.carried_object FOR SELECT
	USING (job_id IN (SELECT w.job_id FROM partshift.waiting w WHERE w.own));

GRANT SELECT ON partshift.verification, partshift.phase_log,
	partshift.dropout, partshift.carried_object TO PUBLIC;

GRANT SELECT ON partshift.policies, partshift.maintenance, partshift.backups
	TO PUBLIC;
