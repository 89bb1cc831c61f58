-- spool_progress: how far into the spool the rows of this database reach; one row
CREATE TABLE spool_progress (
    segment BIGINT NOT NULL,
    position_bytes BIGINT NOT NULL
);
INSERT INTO spool_progress VALUES (0, 0);
COMMENT ON COLUMN spool_progress.segment IS 'The number of the segment file. Source: the collector.';
COMMENT ON COLUMN spool_progress.position_bytes IS 'The end of the last landed record in it. Unit: bytes. Source: the collector.';
COMMENT ON TABLE spool_progress IS 'how far into the spool the rows of this database reach; one row';
