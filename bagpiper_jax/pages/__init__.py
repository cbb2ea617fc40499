"""What pages share: templates, pictures, charts and players. Every page needs nothing but itself."""
