"""The Streamlit boards. A page chooses, analytics read, a chart draws."""
