//! The tables of the state folder's database, as the steps that lead to them.

/// What brings an older file up to date, one step for each version; a file's version is the number
/// of steps it has had.
pub(super) const MIGRATIONS: &[&str] = &[
    "CREATE TABLE sessions (
        id_hash BLOB PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        subject TEXT,
        server TEXT NOT NULL,
        revision TEXT NOT NULL,
        client TEXT NOT NULL,
        level TEXT,
        subscriptions TEXT NOT NULL,
        created INTEGER NOT NULL,
        last_used INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;",
    "CREATE TABLE eras (
        program BLOB PRIMARY KEY NOT NULL,
        initialize INTEGER,
        stateless INTEGER,
        server_info TEXT
    ) STRICT, WITHOUT ROWID;",
    "CREATE TABLE handles (
        id_hash BLOB PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        subject TEXT,
        server TEXT NOT NULL,
        config TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;",
    "CREATE TABLE tenants (
        name TEXT PRIMARY KEY NOT NULL,
        settings TEXT NOT NULL,
        created INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tokens (
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        hash BLOB NOT NULL UNIQUE,
        subject TEXT,
        scopes TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER,
        last_used INTEGER,
        PRIMARY KEY (tenant, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE secrets (
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        sealed BLOB NOT NULL,
        changed INTEGER NOT NULL,
        PRIMARY KEY (tenant, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE installation (
        name TEXT PRIMARY KEY NOT NULL,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;",
    // Configs with secrets in them, which are in `config` no more.
    "ALTER TABLE handles ADD COLUMN sealed BLOB;",
    "CREATE TABLE users (
        tenant TEXT PRIMARY KEY NOT NULL,
        uid INTEGER UNIQUE NOT NULL
    ) STRICT, WITHOUT ROWID;",
    "CREATE TABLE usage (
        span INTEGER NOT NULL,
        start INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        user TEXT NOT NULL,
        server TEXT NOT NULL,
        requests INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL,
        starts INTEGER NOT NULL,
        queue_us INTEGER NOT NULL,
        cpu_ms INTEGER NOT NULL,
        awake_kib_ms INTEGER NOT NULL,
        asleep_kib_ms INTEGER NOT NULL,
        PRIMARY KEY (span, start, tenant, user, server)
    ) STRICT, WITHOUT ROWID;",
];
