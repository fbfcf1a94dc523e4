"""What a simulated or a real fleet is judged by."""
