"""What runs really took: records of them, and the corrections that a site makes of them."""
