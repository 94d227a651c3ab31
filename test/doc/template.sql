-- What is in the database of every scene.
CREATE EXTENSION partshift;

CREATE FUNCTION expect(so boolean, what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF so IS NOT TRUE THEN
		RAISE EXCEPTION 'not so: %', what;
	END IF;
END
$$;

CREATE FUNCTION state(job integer) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT phase || ', ' || status FROM partshift.jobs WHERE job_id = job);
END
$$;

-- The table of most examples, with a row for each of the last hours.
CREATE PROCEDURE make_orders(hours integer DEFAULT 3000) LANGUAGE plpgsql AS $$
BEGIN
	CREATE TABLE orders (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		customer_id bigint NOT NULL,
		created_at timestamptz NOT NULL DEFAULT now());
	INSERT INTO orders (customer_id, created_at)
	SELECT h % 100, now() - h * interval '1 hour' FROM generate_series(1, hours) h;
	ANALYZE orders;
END
$$;
