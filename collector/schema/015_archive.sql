-- archive_files: one Parquet file that holds rows of one table and one day; key (path)
CREATE TABLE archive_files (
    path VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    day DATE NOT NULL,
    state VARCHAR NOT NULL,
    place VARCHAR,
    rows_count BIGINT,
    size_bytes BIGINT,
    sha256 VARCHAR,
    column_names VARCHAR,
    written_at TIMESTAMP NOT NULL,
    dropped_at TIMESTAMP,
    PRIMARY KEY (path)
);
COMMENT ON COLUMN archive_files.path IS 'Where the file is, within its place. Source: the collector.';
COMMENT ON COLUMN archive_files.table_name IS 'The table whose rows it holds. Source: the collector.';
COMMENT ON COLUMN archive_files.day IS 'The day of those rows. Unit: UTC. Source: the collector.';
COMMENT ON COLUMN archive_files.state IS 'writing (not read yet), live (its rows are here and no longer in the table) or dropped (no longer read). Source: the collector.';
COMMENT ON COLUMN archive_files.place IS 'Address of the folder or object store as configured; null is the folder archive beside the database. Source: the configuration.';
COMMENT ON COLUMN archive_files.rows_count IS 'Rows in the file; null while it is written. Unit: rows. Source: the collector.';
COMMENT ON COLUMN archive_files.size_bytes IS 'Size of the file; null while it is written. Unit: bytes. Source: the collector.';
COMMENT ON COLUMN archive_files.sha256 IS 'SHA-256 of the file, hexadecimal; null while it is written. Source: the collector.';
COMMENT ON COLUMN archive_files.column_names IS 'The columns of the file, with commas between; null while it is written. Source: the collector.';
COMMENT ON COLUMN archive_files.written_at IS 'When it was begun. Unit: UTC, microseconds. Source: the collector.';
COMMENT ON COLUMN archive_files.dropped_at IS 'Since when nothing reads it; the file goes a while after. Unit: UTC, microseconds. Source: the collector.';
COMMENT ON TABLE archive_files IS 'one Parquet file that holds rows of one table and one day; key (path)';
