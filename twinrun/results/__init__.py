"""What a verify found, as plain frozen values; rendering lives in report/ and cli/."""
