"""What the paths of providers' APIs ask for: a file for each family, for its SDK's instrumentor and for the gateway."""
