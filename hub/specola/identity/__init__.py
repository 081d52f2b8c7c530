"""Who somebody is: login, groups, roles."""
