"""Charts: pure functions from a frame to an ECharts option. No reading, no Streamlit."""
