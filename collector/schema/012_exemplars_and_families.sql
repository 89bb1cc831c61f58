-- metric_exemplars: one exemplar of one series: a measured value with the trace that it came from; key (series_id, observed_at, value)
CREATE TABLE metric_exemplars (
    series_id BIGINT NOT NULL,
    observed_at TIMESTAMP NOT NULL,
    value DOUBLE NOT NULL,
    trace_id VARCHAR,
    span_id VARCHAR,
    labels MAP(VARCHAR, VARCHAR)
);
COMMENT ON COLUMN metric_exemplars.series_id IS 'The series (metric_series). Source: the collector.';
COMMENT ON COLUMN metric_exemplars.observed_at IS 'When the value was measured. Unit: UTC, microseconds. Source: the sender.';
COMMENT ON COLUMN metric_exemplars.value IS 'The measured value. Unit: metric_series.unit. Source: the sender.';
COMMENT ON COLUMN metric_exemplars.trace_id IS 'The trace in which it was measured, 32 lowercase hex digits. Source: the sender.';
COMMENT ON COLUMN metric_exemplars.span_id IS 'The span in which it was measured, 16 lowercase hex digits. Source: the sender.';
COMMENT ON COLUMN metric_exemplars.labels IS 'Its other labels or attributes. Source: the sender.';
COMMENT ON TABLE metric_exemplars IS 'one exemplar of one series: a measured value with the trace that it came from; key (series_id, observed_at, value)';

-- metric_families: one metric family as its first sender described it
CREATE TABLE metric_families (
    name VARCHAR NOT NULL,
    kind VARCHAR,
    unit VARCHAR,
    help VARCHAR,
    PRIMARY KEY (name)
);
COMMENT ON COLUMN metric_families.name IS 'Name of the family as received. Source: remote write''s metadata.';
COMMENT ON COLUMN metric_families.kind IS 'counter, gauge, histogram, gaugehistogram, summary, info, stateset or unknown. Source: remote write''s metadata.';
COMMENT ON COLUMN metric_families.unit IS 'Its unit. Unit: as Prometheus names it. Source: remote write''s metadata.';
COMMENT ON COLUMN metric_families.help IS 'What it says. Source: remote write''s metadata.';
COMMENT ON TABLE metric_families IS 'one metric family as its first sender described it';

COMMENT ON COLUMN metric_points.value IS 'The value; null: the series ends here (a stale marker: the target is gone or no longer has it). Unit: metric_series.unit. Source: the target.';
COMMENT ON COLUMN metric_histograms.count IS 'Observations so far; null: the series ends here. Unit: observations. Source: the target.';
COMMENT ON COLUMN metric_series.kind IS 'gauge, counter, histogram, delta or delta_histogram. Source: the target, or its name where the sender does not say.';
