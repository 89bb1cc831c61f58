"""The router: which pages there are. Streamlit runs this file; `fleetmeter dash` starts it."""

from pathlib import Path

import streamlit as st

from dashboards import reads, routes

# A file of ours: Streamlit would fetch an icon given by name from the Internet.
ICON = Path(__file__).parent / "static" / "icon.png"

st.set_page_config(page_title=reads.current().title, page_icon=str(ICON), layout="wide")
st.navigation(list(routes.pages().values()), position="top").run()
