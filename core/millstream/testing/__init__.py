"""What tests of Millstream share: builders of histories, servers, processes and faults."""
