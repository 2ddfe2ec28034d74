-- +goose Up
-- One text for SQLite and PostgreSQL. Times are the store's clock: BIGINT microseconds since 1970 UTC, 0 = none.

CREATE TABLE store (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
);

CREATE TABLE restores (
	id              TEXT PRIMARY KEY,
	rev             BIGINT NOT NULL,
	cloud           TEXT NOT NULL,
	project_id      TEXT NOT NULL,
	backup_id       TEXT NOT NULL,
	volume_id       TEXT NOT NULL,
	backup_name     TEXT NOT NULL,
	volume_name     TEXT NOT NULL,
	backup_gib      BIGINT NOT NULL,
	volume_gib      BIGINT NOT NULL,
	class           TEXT NOT NULL,
	class_rank      INTEGER NOT NULL,
	tried           INTEGER NOT NULL,
	state           TEXT NOT NULL CHECK (state IN ('waiting','queued','preparing','posting','restoring','verifying','succeeded','failed','cancelled','in_doubt')),
	state_since     BIGINT NOT NULL,
	wait            TEXT NOT NULL,
	reason          TEXT NOT NULL,
	fail_class      TEXT NOT NULL,
	advice          TEXT NOT NULL,
	proof           TEXT NOT NULL CHECK (proof IN ('','status','weak','hook','person')),
	attempt         BIGINT NOT NULL,
	spent           BIGINT NOT NULL,
	waits           BIGINT NOT NULL,
	generation      BIGINT NOT NULL,
	releases        BIGINT NOT NULL,
	accepted        BOOLEAN NOT NULL,
	seen_running    BOOLEAN NOT NULL,
	unproven        BOOLEAN NOT NULL,
	overdue         BOOLEAN NOT NULL,
	again           BOOLEAN NOT NULL,
	not_before      BIGINT NOT NULL,
	not_after       BIGINT NOT NULL,
	asked_at        BIGINT NOT NULL,
	created_at      BIGINT NOT NULL,
	updated_at      BIGINT NOT NULL,
	released_at     BIGINT NOT NULL,
	post_deadline   BIGINT NOT NULL,
	settled_at      BIGINT NOT NULL,
	accepted_at     BIGINT NOT NULL,
	watch_deadline  BIGINT NOT NULL,
	finished_at     BIGINT NOT NULL,
	volume_gone_at  BIGINT NOT NULL,
	backup_gone_at  BIGINT NOT NULL,
	seen_volume     BIGINT NOT NULL,
	seen_backup     BIGINT NOT NULL,
	seen_at         BIGINT NOT NULL,
	hash            TEXT NOT NULL,
	labels          TEXT NOT NULL,
	trace           TEXT NOT NULL,
	actor           TEXT NOT NULL
);

-- Nobody else may touch a volume while one restore of ours does, or may still do.
CREATE UNIQUE INDEX one_restore_per_volume ON restores (volume_id)
	WHERE state IN ('posting','restoring','verifying','in_doubt');
-- Cinder restores a backup to one volume at a time.
CREATE UNIQUE INDEX one_restore_per_backup ON restores (backup_id)
	WHERE state IN ('posting','restoring');
CREATE INDEX restores_by_volume ON restores (volume_id, backup_id);
CREATE INDEX restores_waiting ON restores (cloud, class_rank, tried, created_at) WHERE state = 'waiting';
CREATE INDEX restores_by_state ON restores (cloud, state);
CREATE INDEX restores_held ON restores (backup_id, volume_id) WHERE state = 'waiting' AND wait = 'held';
CREATE INDEX restores_ended ON restores (cloud, finished_at) WHERE finished_at > 0;
CREATE INDEX restores_by_time ON restores (created_at, id);

CREATE TABLE attempts (
	restore_id       TEXT NOT NULL,
	attempt          BIGINT NOT NULL,
	request_id       TEXT NOT NULL,
	worker           TEXT NOT NULL,
	started_at       BIGINT NOT NULL,
	post_deadline    BIGINT NOT NULL,
	volume_status    TEXT NOT NULL,
	volume_updated   BIGINT NOT NULL,
	backup_status    TEXT NOT NULL,
	backup_updated   BIGINT NOT NULL,
	backup_source    TEXT NOT NULL,
	src_backup_id    TEXT NOT NULL,
	cloud_time       BIGINT NOT NULL,
	answered_at      BIGINT NOT NULL,
	status           INTEGER NOT NULL,
	code             TEXT NOT NULL,
	message          TEXT NOT NULL,
	cloud_request_id TEXT NOT NULL,
	answerer         TEXT NOT NULL,
	executed         TEXT NOT NULL,
	retry_after      BIGINT NOT NULL,
	outcome          TEXT NOT NULL,
	PRIMARY KEY (restore_id, attempt)
);

CREATE TABLE events (
	id         TEXT PRIMARY KEY,
	seq        BIGINT,
	hash       TEXT NOT NULL,
	at         BIGINT NOT NULL,
	cloud      TEXT NOT NULL,
	restore_id TEXT NOT NULL,
	attempt    BIGINT NOT NULL,
	kind       TEXT NOT NULL,
	from_state TEXT NOT NULL,
	to_state   TEXT NOT NULL,
	reason     TEXT NOT NULL,
	actor      TEXT NOT NULL
);
CREATE UNIQUE INDEX events_by_seq ON events (seq) WHERE seq IS NOT NULL;
CREATE INDEX events_by_restore ON events (restore_id, at);
CREATE INDEX events_unnumbered ON events (at, id) WHERE seq IS NULL;

CREATE TABLE rejected (
	id          TEXT PRIMARY KEY,
	queue       TEXT NOT NULL,
	task_id     TEXT NOT NULL,
	payload     TEXT NOT NULL,
	truncated   BOOLEAN NOT NULL,
	reason      TEXT NOT NULL,
	worker      TEXT NOT NULL,
	at          BIGINT NOT NULL,
	replayed_at BIGINT NOT NULL
);

CREATE TABLE clouds (
	name         TEXT PRIMARY KEY,
	project_id   TEXT NOT NULL DEFAULT '',
	rev          BIGINT NOT NULL,
	cap          BIGINT NOT NULL,
	post_rate    DOUBLE PRECISION NOT NULL,
	rate_now     DOUBLE PRECISION NOT NULL,
	read_rate    DOUBLE PRECISION NOT NULL,
	settle       BIGINT NOT NULL,
	ambiguous    TEXT NOT NULL CHECK (ambiguous IN ('repost','in_doubt')),
	next_post_at BIGINT NOT NULL,
	not_before   BIGINT NOT NULL,
	slowed_at    BIGINT NOT NULL,
	paused_by    TEXT NOT NULL CHECK (paused_by IN ('','verdict','person')),
	paused_at    BIGINT NOT NULL,
	paused_row   TEXT NOT NULL,
	probe_at     BIGINT NOT NULL,
	probe_step   BIGINT NOT NULL,
	probing      TEXT NOT NULL,
	suspect_from BIGINT NOT NULL,
	suspect_at   BIGINT NOT NULL,
	reason       TEXT NOT NULL,
	actor        TEXT NOT NULL,
	updated_at   BIGINT NOT NULL
);

CREATE TABLE leases (
	name       TEXT PRIMARY KEY,
	holder     TEXT NOT NULL,
	term       BIGINT NOT NULL,
	taken_at   BIGINT NOT NULL,
	expires_at BIGINT NOT NULL
);
