"""Sign in from a client: by approving a machine in the browser, or by the identity of a CI job."""
