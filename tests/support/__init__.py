"""What tests of several wings share: the loopback Hub, a scripted endpoint, small files of every kind, a workplace."""
