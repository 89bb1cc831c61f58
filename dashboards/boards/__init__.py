"""The pages: each chooses what to ask and where it stands on the page."""
