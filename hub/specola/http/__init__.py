"""The route table and what serves it: authentication, problems, streams, OpenAPI, metrics."""
