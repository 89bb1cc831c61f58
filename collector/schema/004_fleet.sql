-- gpu_samples: one GPU at one time; key (gpu_uuid, sampled_at)
CREATE TABLE gpu_samples (
    gpu_uuid VARCHAR NOT NULL,
    sampled_at TIMESTAMP NOT NULL,
    gpu_index INTEGER,
    gpu_type VARCHAR,
    host VARCHAR,
    replica VARCHAR,
    cluster VARCHAR,
    power_watts DOUBLE,
    energy_joules DOUBLE,
    utilization_ratio DOUBLE,
    sm_active_ratio DOUBLE,
    tensor_active_ratio DOUBLE,
    dram_active_ratio DOUBLE,
    memory_used_bytes BIGINT,
    memory_total_bytes BIGINT,
    temperature_celsius DOUBLE,
    sm_clock_hertz DOUBLE,
    clock_event_reasons VARCHAR[],
    xid INTEGER
);
COMMENT ON COLUMN gpu_samples.gpu_uuid IS 'UUID of the GPU. Source: NVML, DCGM or the simulator.';
COMMENT ON COLUMN gpu_samples.sampled_at IS 'When it was sampled. Unit: UTC, microseconds. Source: the sampler.';
COMMENT ON COLUMN gpu_samples.gpu_index IS 'Index on its host. Source: the sampler.';
COMMENT ON COLUMN gpu_samples.gpu_type IS 'The GPU model. Source: the sampler.';
COMMENT ON COLUMN gpu_samples.host IS 'The host. Source: the sampler.';
COMMENT ON COLUMN gpu_samples.replica IS 'The replica that it serves. Source: the inventory.';
COMMENT ON COLUMN gpu_samples.cluster IS 'The cluster. Source: the inventory.';
COMMENT ON COLUMN gpu_samples.power_watts IS 'Power draw. Unit: W. Source: NVML or DCGM.';
COMMENT ON COLUMN gpu_samples.energy_joules IS 'Energy counter since driver load; may reset. Unit: J. Source: NVML or DCGM.';
COMMENT ON COLUMN gpu_samples.utilization_ratio IS 'Share of time any kernel ran (misleading for decode). Unit: 1. Source: NVML.';
COMMENT ON COLUMN gpu_samples.sm_active_ratio IS 'Share of SMs active. Unit: 1. Source: DCGM or GPM.';
COMMENT ON COLUMN gpu_samples.tensor_active_ratio IS 'Share of cycles with the tensor pipe active. Unit: 1. Source: DCGM or GPM.';
COMMENT ON COLUMN gpu_samples.dram_active_ratio IS 'Share of cycles with memory busy. Unit: 1. Source: DCGM or GPM.';
COMMENT ON COLUMN gpu_samples.memory_used_bytes IS 'Memory in use (engines preallocate: not a load). Unit: bytes. Source: NVML.';
COMMENT ON COLUMN gpu_samples.memory_total_bytes IS 'Memory. Unit: bytes. Source: NVML.';
COMMENT ON COLUMN gpu_samples.temperature_celsius IS 'Core temperature. Unit: Cel. Source: NVML.';
COMMENT ON COLUMN gpu_samples.sm_clock_hertz IS 'SM clock. Unit: Hz. Source: NVML.';
COMMENT ON COLUMN gpu_samples.clock_event_reasons IS 'Why the clock is held down, e.g. sw_thermal_slowdown. Source: NVML.';
COMMENT ON COLUMN gpu_samples.xid IS 'The last XID since the previous sample; null for none. Source: NVML events.';
COMMENT ON TABLE gpu_samples IS 'one GPU at one time; key (gpu_uuid, sampled_at)';

-- replicas: one server in one interval of time in which nothing about it changed
CREATE TABLE replicas (
    replica VARCHAR NOT NULL,
    valid_from TIMESTAMP NOT NULL,
    valid_to TIMESTAMP,
    deployment VARCHAR,
    model VARCHAR,
    cluster VARCHAR,
    region VARCHAR,
    provider VARCHAR,
    purchase_type VARCHAR,
    engine VARCHAR,
    engine_version VARCHAR,
    gpu_type VARCHAR,
    gpu_count INTEGER,
    PRIMARY KEY (replica, valid_from)
);
COMMENT ON COLUMN replicas.replica IS 'Name of the server. Source: inventory or resource.';
COMMENT ON COLUMN replicas.valid_from IS 'From when this row holds. Unit: UTC. Source: inventory.';
COMMENT ON COLUMN replicas.valid_to IS 'Until when, exclusive; null is now. Unit: UTC. Source: inventory.';
COMMENT ON COLUMN replicas.deployment IS 'Its deployment. Source: inventory.';
COMMENT ON COLUMN replicas.model IS 'The model that it serves. Source: inventory.';
COMMENT ON COLUMN replicas.cluster IS 'The cluster. Source: inventory.';
COMMENT ON COLUMN replicas.region IS 'The region or site. Source: inventory.';
COMMENT ON COLUMN replicas.provider IS 'Who bills for it. Source: inventory.';
COMMENT ON COLUMN replicas.purchase_type IS 'on_demand, reserved, spot, committed or amortised. Source: inventory.';
COMMENT ON COLUMN replicas.engine IS 'vllm, sglang … Source: inventory.';
COMMENT ON COLUMN replicas.engine_version IS 'The version of the engine. Source: inventory.';
COMMENT ON COLUMN replicas.gpu_type IS 'The GPU model. Source: inventory.';
COMMENT ON COLUMN replicas.gpu_count IS 'GPUs. Unit: GPUs. Source: inventory.';
COMMENT ON TABLE replicas IS 'one server in one interval of time in which nothing about it changed';

-- events: one thing that happened to the fleet
CREATE TABLE events (
    event_id VARCHAR NOT NULL,
    occurred_at TIMESTAMP NOT NULL,
    kind VARCHAR NOT NULL,
    model VARCHAR,
    deployment VARCHAR,
    replica VARCHAR,
    gpu_uuid VARCHAR,
    title VARCHAR NOT NULL,
    attributes MAP(VARCHAR, VARCHAR),
    PRIMARY KEY (event_id)
);
COMMENT ON COLUMN events.event_id IS 'Stable id, so that a retry is no second event. Source: the sender.';
COMMENT ON COLUMN events.occurred_at IS 'When. Unit: UTC, microseconds. Source: the sender.';
COMMENT ON COLUMN events.kind IS 'deploy, restart, config_change, xid or scale. Source: the sender.';
COMMENT ON COLUMN events.model IS 'The model concerned, if one. Source: the sender.';
COMMENT ON COLUMN events.deployment IS 'The deployment concerned, if one. Source: the sender.';
COMMENT ON COLUMN events.replica IS 'The replica concerned, if one. Source: the sender.';
COMMENT ON COLUMN events.gpu_uuid IS 'The GPU concerned, if one. Source: the sender.';
COMMENT ON COLUMN events.title IS 'A sentence for a human. Source: the sender.';
COMMENT ON COLUMN events.attributes IS 'Details. Source: the sender.';
COMMENT ON TABLE events IS 'one thing that happened to the fleet';
