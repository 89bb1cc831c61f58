"""What each kind of rule looks at: a rule, the data and a time become samples. One module a kind."""
