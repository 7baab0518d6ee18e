"""What coordinator and device exchange: messages, and the bundle of an enrolled device."""
