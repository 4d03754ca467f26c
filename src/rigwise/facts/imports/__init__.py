"""Price catalogues of other projects, and plain tables, as rows of ours."""
