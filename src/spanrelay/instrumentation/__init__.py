"""The kit that instrumentors are made of: the patch table, the base class, and the boundary of Stainless SDKs."""
