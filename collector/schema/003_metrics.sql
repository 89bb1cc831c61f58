-- metric_series: one time series: a metric name with its labels
CREATE TABLE metric_series (
    series_id BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    unit VARCHAR,
    labels MAP(VARCHAR, VARCHAR),
    model VARCHAR,
    replica VARCHAR,
    original_name VARCHAR,
    PRIMARY KEY (series_id)
);
COMMENT ON COLUMN metric_series.series_id IS 'Hash of name and labels. Source: the collector.';
COMMENT ON COLUMN metric_series.name IS 'Canonical name (engine_exporter/semconv.py), or the original where it is unknown. Source: the target.';
COMMENT ON COLUMN metric_series.kind IS 'gauge, counter or histogram. Source: the target.';
COMMENT ON COLUMN metric_series.unit IS 'UCUM unit. Source: semconv or the target.';
COMMENT ON COLUMN metric_series.labels IS 'Sorted labels. Source: the target.';
COMMENT ON COLUMN metric_series.model IS 'The label model_name or model, promoted. Source: the target.';
COMMENT ON COLUMN metric_series.replica IS 'The replica, promoted. Source: the target or its configuration.';
COMMENT ON COLUMN metric_series.original_name IS 'The name as received. Source: the target.';
COMMENT ON TABLE metric_series IS 'one time series: a metric name with its labels';

-- metric_points: one value of one series at one time; key (series_id, observed_at)
CREATE TABLE metric_points (
    series_id BIGINT NOT NULL,
    observed_at TIMESTAMP NOT NULL,
    value DOUBLE
);
COMMENT ON COLUMN metric_points.series_id IS 'The series. Source: the collector.';
COMMENT ON COLUMN metric_points.observed_at IS 'When it was read. Unit: UTC, microseconds. Source: the target or the scrape.';
COMMENT ON COLUMN metric_points.value IS 'The value. Unit: metric_series.unit. Source: the target.';
COMMENT ON TABLE metric_points IS 'one value of one series at one time; key (series_id, observed_at)';

-- metric_histograms: one cumulative histogram of one series at one time; key (series_id, observed_at)
CREATE TABLE metric_histograms (
    series_id BIGINT NOT NULL,
    observed_at TIMESTAMP NOT NULL,
    count BIGINT,
    sum DOUBLE,
    bounds DOUBLE[],
    bucket_counts BIGINT[]
);
COMMENT ON COLUMN metric_histograms.series_id IS 'The series. Source: the collector.';
COMMENT ON COLUMN metric_histograms.observed_at IS 'When it was read. Unit: UTC, microseconds. Source: the target or the scrape.';
COMMENT ON COLUMN metric_histograms.count IS 'Observations so far. Unit: observations. Source: the target.';
COMMENT ON COLUMN metric_histograms.sum IS 'Sum of the observations so far. Unit: metric_series.unit. Source: the target.';
COMMENT ON COLUMN metric_histograms.bounds IS 'Upper bounds of the buckets, the infinite one left out. Unit: metric_series.unit. Source: the target.';
COMMENT ON COLUMN metric_histograms.bucket_counts IS 'Observations per bucket, not cumulative; one more than bounds. Unit: observations. Source: the target.';
COMMENT ON TABLE metric_histograms IS 'one cumulative histogram of one series at one time; key (series_id, observed_at)';
